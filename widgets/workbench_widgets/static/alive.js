// What every view has in a notebook: its static picture, which stands below it for readers without a kernel, is hidden
// while the view is there; and when its kernel stops, the view becomes what it is on a saved page, and says so.

const GONE = "The kernel has stopped: what was shown stays, but nothing new can be worked out. Run the cell again to go on.";
const STOPPED = { live: false, locked: true, job: { kind: "", state: "idle", text: "", fraction: 0 } };

/** CSS that hides a static picture, and its line in JupyterLab. */
const hiding = (twin) => (twin ? `.wb-static-${twin}, .jp-OutputArea-child:has(.wb-static-${twin}) { display: none !important; }` : "");

/** `render` with both. The trait `twin` names the static picture. */
export function alive(render) {
  return async (context) => {
    const { model, el: place } = context;
    let gone = false;
    function stop() {
      if (gone) return;
      gone = true;
      for (const [name, value] of Object.entries(STOPPED)) if (model.get(name) !== undefined) model.set(name, value);
      if (place.parentElement?.closest(".wb-studio")) return; // the view around it says so
      const note = document.createElement("p");
      note.className = "wb-gone";
      note.setAttribute("role", "status");
      place.querySelector(".wb-studio")?.prepend(note);
      note.textContent = GONE;
    }
    function reach(method, ...given) {
      if (gone) return;
      try { model[method](...given); } catch { stop(); } // the line to the kernel is cut
    }
    const guarded = Object.create(model, {
      send: { value: (...given) => reach("send", ...given) },
      save_changes: { value: (...given) => reach("save_changes", ...given) },
    });
    const sheet = document.createElement("style");
    const hide = () => { sheet.textContent = hiding(model.get("twin")); };
    model.on("comm_live_update", stop);
    model.on("change:twin", hide);
    const close = await render({ ...context, model: guarded });
    hide();
    place.append(sheet);
    return () => {
      model.off("comm_live_update", stop);
      model.off("change:twin", hide);
      sheet.remove();
      close?.();
    };
  };
}
