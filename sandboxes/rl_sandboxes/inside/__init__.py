"""What runs inside a sandbox. Standard library only: it is sent to interpreters that have no more.

Nothing here trusts the code that it runs, and the host trusts nothing that is said here but what
``supervisor`` (a process that the code cannot reach) saw for itself.
"""
