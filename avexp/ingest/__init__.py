"""Raw recordings -> sessions on disk: one reader a format."""
