"""The project itself: its architecture, documentation, examples, recipes and wheel."""
