"""One HTML page that shows what is known of a deployed network, without network access and without scripts."""
