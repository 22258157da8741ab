"""The container images: a Dockerfile, and the lock files that it installs."""
