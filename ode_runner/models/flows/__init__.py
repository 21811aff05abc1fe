"""Flows with a log density: continuous, and of finitely many layers."""
