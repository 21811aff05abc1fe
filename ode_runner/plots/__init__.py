"""Figures. Each function returns a matplotlib figure or an animation; nothing here touches global state or files."""
