// A table of verdicts gets one button per kind of verdict that occurs in it; a verdict on a stand-in or at a smaller scale
// is a kind of its own. Without scripts the whole table is simply shown.
document.addEventListener("DOMContentLoaded", () => {
  // verdicts in the source's setting first, then those at a smaller scale, then those on a stand-in
  const words = ["holds", "holds with correction", "fails", "undecided", "not testable"];
  const order = (label) => {
    const rank = words.indexOf(label.replace(/^on a stand-in: |, at a smaller scale$/g, ""));
    return 10 * (label.includes(":") ? 2 : label.includes(",") ? 1 : 0) + (rank < 0 ? words.length : rank);
  };
  for (const box of document.querySelectorAll(".verdict-table")) {
    const rows = [...box.querySelectorAll("tr[data-verdict]")];
    const verdicts = [...new Set(rows.map((row) => row.dataset.verdict))].sort((a, b) => order(a) - order(b));
    if (verdicts.length < 2) continue;
    const bar = document.createElement("div");
    bar.className = "verdict-filter";
    bar.setAttribute("role", "group");
    bar.setAttribute("aria-label", "Show claims by verdict");
    const choose = (verdict) => {
      for (const row of rows) row.hidden = verdict !== "" && row.dataset.verdict !== verdict;
      for (const button of bar.children) button.setAttribute("aria-pressed", String(button.dataset.verdict === verdict));
    };
    for (const verdict of ["", ...verdicts]) {
      const count = verdict ? rows.filter((row) => row.dataset.verdict === verdict).length : rows.length;
      const button = document.createElement("button");
      button.type = "button";
      button.dataset.verdict = verdict;
      button.textContent = `${verdict || "all"} (${count})`;
      button.addEventListener("click", () => choose(verdict));
      bar.append(button);
    }
    box.prepend(bar);
    choose("");
  }
});
