"""Results as terminal renderables; builds, never prints."""
