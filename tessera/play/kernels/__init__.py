"""What a search does again and again, in Triton; the plain form is ``play.search_trees``."""
