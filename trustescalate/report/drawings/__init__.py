"""One drawing a module, from one small grammar: `svg` measures text and writes shapes, `axes` scales them."""
