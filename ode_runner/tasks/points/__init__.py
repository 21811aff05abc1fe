"""Tasks with points on a line, in the plane or in space, to be classified or moved."""
