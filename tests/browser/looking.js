// What a person sees at a glance and a test has to work out: what is cut off, what lies on what, what moves.
window.looking = (() => {
  const seen = (e) => e.checkVisibility({ opacityProperty: true, visibilityProperty: true }) && e.getClientRects().length > 0;
  const all = () => [...document.querySelectorAll("#view *")].filter(seen);
  const within = (e, selector) => Boolean(e.closest(selector));
  const hidden = ".wb-visually-hidden, [aria-hidden='true']";
  const drawn = "svg, canvas, .wb-map-stage, .wb-menu-box";
  const said = (e) => `${e.tagName.toLowerCase()}.${String(e.className.baseVal ?? e.className).split(" ")[0]} ${e.textContent.trim().slice(0, 40)}`;
  const scrolls = (e) => { for (let at = e; at && at.id !== "view"; at = at.parentElement) if (/auto|scroll/.test(getComputedStyle(at).overflowX + getComputedStyle(at).overflowY)) return true; return false; };
  const own = (e) => [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim());

  /** Text that is cut off, without a scroll bar to reach it and without a title to read it by. */
  function clipped() {
    return all().filter((e) => own(e) && !within(e, hidden) && !within(e, drawn) && !scrolls(e)).filter((e) => {
      const style = getComputedStyle(e);
      const cut = /hidden|clip/.test(style.overflowX) && e.scrollWidth > e.clientWidth + 1;
      const box = e.getBoundingClientRect();
      return (cut && !e.title && !e.closest("[title]")) || box.right > innerWidth + 1 || box.left < -1;
    }).map(said);
  }
  /** Controls and words that lie on each other. */
  function overlapping() {
    const leaves = all().filter((e) => (own(e) || e.matches("button, input, select, textarea, summary, progress")) && !within(e, hidden) && !within(e, drawn) && !scrolls(e) && getComputedStyle(e).position !== "absolute");
    const boxes = leaves.map((e) => [...e.getClientRects()].filter((b) => b.width > 2 && b.height > 2));
    const found = [];
    for (let i = 0; i < leaves.length; i++) {
      for (let j = i + 1; j < leaves.length; j++) {
        if (leaves[i].contains(leaves[j]) || leaves[j].contains(leaves[i])) continue;
        const on = boxes[i].some((a) => boxes[j].some((b) => Math.min(a.right, b.right) - Math.max(a.left, b.left) > 3 && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 4));
        if (on) found.push(`${said(leaves[i])} | ${said(leaves[j])}`);
      }
    }
    return found;
  }
  /** Elements that would move or fade, and rules that move parts which no element stands for. */
  function moving() {
    const long = (time) => time.split(",").some((t) => parseFloat(t) > 0);
    const found = all().filter((e) => ["", "::before", "::after"].some((part) => {
      const style = getComputedStyle(e, part || null);
      return long(style.transitionDuration) || (style.animationName !== "none" && long(style.animationDuration));
    }) || getComputedStyle(e).scrollBehavior === "smooth").map(said);
    const rules = (list, asked) => [...list].flatMap((rule) => (rule.cssRules?.length ? rules(rule.cssRules, asked || /prefers-reduced-motion/.test(rule.conditionText ?? "")) :
      !asked && /::(?!before|after)/.test(rule.selectorText ?? "") && (long(rule.style.transitionDuration || "0s") || long(rule.style.animationDuration || "0s")) ? [rule.selectorText] : []));
    return [...found, ...[...document.styleSheets].flatMap((sheet) => rules(sheet.cssRules, false)), ...document.getAnimations().map(String)];
  }
  /** What the Tab key must come to: one of a group of radio buttons. */
  function tabbable() {
    const groups = new Set();
    return all().concat([...document.querySelectorAll("#view input")].filter((e) => e.checkVisibility() && !all().includes(e)))
      .filter((e) => !e.matches(":disabled") && (e.tabIndex >= 0 ? e.matches("a[href], [tabindex]") : false) || (!e.matches(":disabled, [role=tab], [role=radio], [role=option]") && e.matches("button, input, select, textarea, summary")))
      .filter((e) => { if (e.type !== "radio") return true; const group = e.name; const chosen = document.querySelector(`input[name="${group}"]:checked:not(:disabled)`); if (chosen && chosen !== e) return false; if (groups.has(group)) return false; groups.add(group); return true; })
      .map((e, i) => { e.dataset.stop = String(i); return said(e) + (e.getAttribute("aria-label") ?? ""); });
  }
  /** Whether one sees where the focus is. */
  function ringed() {
    const e = document.activeElement;
    const rings = [e, e.parentElement, e.closest("label"), e.nextElementSibling].filter(Boolean).map((x) => getComputedStyle(x));
    return rings.some((s) => (s.outlineStyle !== "none" && parseFloat(s.outlineWidth) > 0) || s.boxShadow !== "none");
  }
  /** Until what is drawn to a size has been drawn. */
  const settle = () => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done))));
  return { settle, clipped, overlapping, moving, tabbable, ringed, wide: () => document.documentElement.scrollWidth > innerWidth };
})();
