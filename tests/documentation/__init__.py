"""Parts of docs/ that are made from the program itself: `make docs-generated` writes them, a test compares them."""
