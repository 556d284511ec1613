"""Where the mask of a query may start, a way a file: see sepnet.query.scene.Start."""
