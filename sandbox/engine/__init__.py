"""What runs inside and around the boxes. Standard library only; nothing here may import numpy or the
caller's side.
"""
