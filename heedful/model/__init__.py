"""One frozen base with many adapters: loading, the trunk, its heads and its packed forward."""
