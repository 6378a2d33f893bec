// Pointing at an engine makes the others pale; pressing its name keeps it so.
(() => {
  const parts = document.querySelectorAll("[data-e]");
  const names = document.querySelectorAll(".key button");
  let kept = null;
  const show = (engine) => parts.forEach((part) => {
    part.classList.toggle("pale", engine !== null && part.dataset.e !== engine);
  });
  document.addEventListener("mouseover", (event) => {
    const part = event.target.closest("[data-e]");
    show(part ? part.dataset.e : kept);
  });
  names.forEach((name) => name.addEventListener("click", () => {
    kept = kept === name.dataset.e ? null : name.dataset.e;
    names.forEach((other) => {
      other.setAttribute("aria-pressed", String(other.dataset.e === kept));
    });
    show(kept);
  }));
  // Folded charts are printed too; the tables would take many pages.
  window.addEventListener("beforeprint", () => {
    document.querySelectorAll("details:not(#numbers details)").forEach((folded) => { folded.open = true; });
  });
})();
