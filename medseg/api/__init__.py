"""The verbs of `import medseg`, each with typed keywords; what they do lies in the rooms to the left.

The module is private: its names are those of `medseg` itself.
"""
