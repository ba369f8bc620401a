(() => {
  "use strict";
  for (const list of document.querySelectorAll("[data-tests]")) {
    const tools = list.querySelector("[data-tools]");
    const words = tools.querySelector("input");
    const outcome = tools.querySelector("select");
    const told = tools.querySelector("output");
    const rows = Array.from(list.querySelectorAll("tr[class]"), (row) => ({
      row,
      css: row.className,
      text: (row.parentElement.querySelector("th").textContent + " " + row.cells[0].textContent).toLowerCase(),
    }));
    const filter = () => {
      const wanted = words.value.toLowerCase().split(/\s+/).filter(Boolean);
      let shown = 0;
      for (const { row, css, text } of rows) {
        const fits = (!outcome.value || css === outcome.value) && wanted.every((word) => text.includes(word));
        row.hidden = !fits;
        shown += fits ? 1 : 0;
      }
      for (const body of list.querySelectorAll("tbody")) {
        body.hidden = !body.querySelector("tr[class]:not([hidden])");
      }
      told.textContent = shown + " of " + rows.length + " shown";
      list.open = true;
    };
    let timer = 0;
    words.addEventListener("input", () => {
      clearTimeout(timer);
      timer = setTimeout(filter, 80);
    });
    outcome.addEventListener("change", filter);
    tools.hidden = false;
  }
})();
