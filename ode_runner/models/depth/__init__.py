"""Models whose depth is a solve or a stack of layers: from residual networks to neural ODEs."""
