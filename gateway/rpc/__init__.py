"""The gRPC edge: the methods of qzoom.v1.QZoom."""
