"""The only room that edits configuration files of the host; what they were is kept, to the byte."""
