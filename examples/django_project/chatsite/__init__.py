"""An example site: chat and streaming views over one pool of connections a worker."""
