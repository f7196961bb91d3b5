//! What people ask of a pipeline or of the plugin store, as values: the command line prints them, HTTP answers with them.
