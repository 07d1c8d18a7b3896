"""What the kernel gives to keep a program in: namespaces, system call filters, resource limits."""
