"""What changes things: VMs are planned for the PC as it is now, defined, started, watched and stopped."""
