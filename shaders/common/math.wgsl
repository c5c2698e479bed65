// Elementary functions where the built-in ones are too inaccurate, undefined on special values, or missing.
