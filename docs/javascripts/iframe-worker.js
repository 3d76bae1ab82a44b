// Search in pages that are opened from the disk, where browsers allow no workers: the worker's script in an invisible frame.
// mkdocs-material's offline plugin takes a script from another server for this, unless it is given one of this name.
(() => {
  if (location.protocol !== "file:") return

  const load = (frame, url) =>
    new Promise((done, failed) => {
      const script = frame.document.createElement("script")
      Object.assign(script, { src: url, onload: done, onerror: failed })
      frame.document.head.append(script)
    })
  const tell = (target, data) => target.dispatchEvent(new MessageEvent("message", { data }))

  // The name is what the search's script looks for to find its own files.
  window.IFrameWorker = window.Worker = class extends EventTarget {
    constructor(path) {
      super()
      const url = new URL(path, location.href)
      this.element = document.createElement("iframe")
      this.element.hidden = true
      document.body.append(this.element)
      const frame = this.element.contentWindow
      frame.importScripts = (...urls) =>
        urls.reduce((before, next) => before.then(() => load(frame, new URL(next, url).href)), Promise.resolve())
      frame.postMessage = (data) => tell(this, data)
      this.loaded = load(frame, url.href)
      this.postMessage = (data) => this.loaded.then(() => tell(frame, data))
    }
    terminate() {
      this.element.remove()
    }
  }
})()
