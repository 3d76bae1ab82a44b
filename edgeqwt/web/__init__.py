"""Models in a browser: LiteRT.js, a page that shows what a build made, a server for it, and Chromium to drive it."""
