"""Compiled and captured solves against the same solves one operation at a time."""
