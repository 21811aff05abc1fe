"""Hypersolvers: the error of a method's steps along a trained field, and networks that correct it."""
