// Chromium gives pages that are opened as files no workers: the search runs in a hidden frame.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      const frame = document.createElement("iframe");
      frame.hidden = true;
      document.body.append(frame);
      this.inside = frame.contentWindow;
      window.addEventListener("message", ({ source, data }) => {
        if (source === this.inside) this.dispatchEvent(new MessageEvent("message", { data }));
      });
      const answer = "<script>postMessage = answer => parent.postMessage(answer, '*')</script>";
      this.inside.document.open();
      this.inside.document.write(`${answer}<script src="${url}"></script>`);
      this.inside.document.close();
      this.loaded = new Promise((done) => this.inside.addEventListener("load", done));
    }
    postMessage(data) {
      this.loaded.then(() => this.inside.dispatchEvent(new MessageEvent("message", { data })));
    }
  };
}
