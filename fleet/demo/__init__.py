"""`make demo`: an agent's logs become a released version, with real workers, servers, model and statistics."""
