"""Models whose depth is a solve, or layers: from residual networks to neural ODEs."""
