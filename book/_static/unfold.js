// Opens what is folded for print, and for a link that leads into it (a claim's anchor opens the claim's card as well).
(() => {
  const unfold = (element) => {
    for (let at = element; at; at = at.parentElement?.closest("details")) if (at.matches("details")) at.open = true;
  };
  const follow = () => {
    const id = decodeURIComponent(location.hash.slice(1));
    const target = id && document.getElementById(id);
    if (!target) return;
    unfold(target.closest("details"));
    unfold(document.getElementById(`claim-${id}`));
    target.scrollIntoView();
  };
  let opened = [];
  document.addEventListener("DOMContentLoaded", follow);
  addEventListener("hashchange", follow);
  addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll("details:not([open])")];
    for (const box of opened) box.open = true;
  });
  addEventListener("afterprint", () => {
    for (const box of opened) box.open = false;
    opened = [];
  });
})();
