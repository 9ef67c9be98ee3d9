"""What a disk image is: told from its content, by our own reading and by qemu-img's, and refused where it may harm."""
