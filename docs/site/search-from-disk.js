// Browsers start no worker from file://. Read from disk, the search of these pages runs in a frame instead.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(script) {
      super();
      this.frame = document.createElement("iframe");
      this.frame.hidden = true;
      this.frame.srcdoc =
        '<script>postMessage = (data) => dispatchEvent(new CustomEvent("answer", { detail: data }));</script>' +
        `<script src="${script}"></script>`;
      this.inside = new Promise((loaded) => {
        this.frame.onload = () => loaded(this.frame.contentWindow);
      });
      this.inside.then((inside) =>
        inside.addEventListener("answer", (event) =>
          this.dispatchEvent(new MessageEvent("message", { data: event.detail })),
        ),
      );
      document.head.append(this.frame);
    }

    postMessage(data) {
      this.inside.then((inside) => inside.dispatchEvent(new MessageEvent("message", { data })));
    }

    terminate() {
      this.frame.remove();
    }
  };
}
