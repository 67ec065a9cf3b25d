"""Keeps the kernel's notice about unencrypted local connections off every run's output."""

c = get_config()  # noqa: F821
c.IPKernelApp.log_level = 40
