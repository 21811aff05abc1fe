"""Pictures. Each function returns a matplotlib figure; nothing here touches global state or files."""
