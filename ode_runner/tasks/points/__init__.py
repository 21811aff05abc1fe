"""Points on a line or in the plane, to be classified or moved."""
