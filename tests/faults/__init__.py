"""The fault suite: a refresh that is killed, cut off from power, refused by the disk, raced and starved anywhere."""
