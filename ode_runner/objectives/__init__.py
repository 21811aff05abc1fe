"""Objectives, what training minimises: one module per objective, chosen by the model's class."""
