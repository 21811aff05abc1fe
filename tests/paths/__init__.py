"""Paths between noise and data, and the samplers that follow them back."""
