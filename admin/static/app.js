// A region with data-refresh asks for itself again every so many seconds, until it says that it has ended.
"use strict";

(() => {
  const region = document.querySelector("[data-refresh]");
  if (!region) return;
  const seconds = Number(region.dataset.refresh) || 2;
  const stale = document.getElementById("stale");
  let failures = 0;
  let isBehind = false;

  const again = () => setTimeout(refresh, 1000 * seconds * 2 ** Math.min(failures, 5));

  async function refresh() {
    if (document.hidden) return again();
    try {
      const answer = await fetch(region.dataset.from, { headers: { Accept: "text/html" }, redirect: "error" });
      if (!answer.ok) throw new Error(String(answer.status));
      show(await answer.text());
      failures = 0;
    } catch {
      failures += 1;
    }
    stale.hidden = failures < 2;
    if (region.dataset.ended !== "true") again();
  }

  function show(markup) {
    const fresh = new DOMParser().parseFromString(markup, "text/html").querySelector("[data-refresh]");
    if (!fresh) return;
    region.dataset.ended = fresh.dataset.ended;
    isBehind = false;
    // Part by part, so that what a reader has focused, opened or scrolled stays as it is.
    for (const part of fresh.querySelectorAll("[data-part]")) {
      const old = region.querySelector(`[data-part="${part.dataset.part}"]`);
      if (!old || old.innerHTML === part.innerHTML) continue;
      const isInUse = old.contains(document.activeElement);
      if (isInUse && part.dataset.part !== "log") {
        isBehind = true;
        continue;
      }
      const inUse = isInUse ? document.activeElement.id : "";
      const log = old.querySelector("pre.log");
      const atEnd = log && log.scrollHeight - log.scrollTop - log.clientHeight < 8;
      const top = log ? log.scrollTop : 0;
      old.innerHTML = part.innerHTML;
      const fresher = old.querySelector("pre.log");
      if (fresher) fresher.scrollTop = atEnd ? fresher.scrollHeight : top;
      if (inUse) document.getElementById(inUse)?.focus({ preventScroll: true });
    }
  }

  // Nothing is asked any more once it has ended, but what was in use then is not shown yet.
  region.addEventListener("focusout", () => {
    if (isBehind && region.dataset.ended === "true") setTimeout(refresh);
  });
  if (region.dataset.ended !== "true") again();
})();
