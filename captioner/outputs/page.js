"use strict";
// What the pages do in a browser: search, the filter by sureness, and a player that follows the segments.

const plain = (text) => text.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase();

// --- search: what is searched has the class "found"; a video's row, a "group", shows where one of its lines does

const search = document.querySelector("#search");
if (search) {
  const items = [...document.querySelectorAll(".found")].map((element) => {
    const parts = [element.closest(".group")?.querySelector("h2"), ...element.querySelectorAll(".caption, .tags, .file")];
    return { element, text: plain(parts.map((part) => part?.textContent ?? "").join(" ")) };
  });
  const groups = [...document.querySelectorAll(".group")];
  const words = document.querySelector("#words");
  const more = document.querySelector("#more");
  let room = 200; // photos that are laid out at a time: thousands take a browser many seconds
  const update = () => {
    const wanted = plain(words.value).split(/\s+/).filter(Boolean);
    const filter = search.querySelector("input:checked")?.value ?? "all";
    let count = 0;
    for (const { element, text } of items) {
      const fits = filter === "all" || (filter === "unsure") === element.classList.contains("unsure");
      const found = fits && wanted.every((word) => text.includes(word));
      count += found;
      element.hidden = !(found && (!more || count <= room));
    }
    const all = filter === "all" && !wanted.length;
    for (const group of groups) {
      group.hidden = !all && !group.querySelector(".found:not([hidden])");
      for (const more of group.querySelectorAll("details")) more.open = !all;
    }
    if (more) more.hidden = count <= room;
    document.querySelector("#count").value = all ? "" : `${count} of ${items.length} found`;
  };
  search.addEventListener("input", () => {
    room = 200;
    update();
  });
  more?.addEventListener("click", () => {
    room += 200;
    update();
  });
  search.hidden = false;
  document.querySelector(".many")?.classList.remove("many");
  update(); // browsers keep what was typed before a page was loaded again
  document.addEventListener("keydown", (event) => {
    if (event.key === "/" && event.target !== words && !event.ctrlKey && !event.metaKey && !event.altKey) {
      event.preventDefault();
      words.focus();
    } else if (event.key === "Escape" && event.target === words) {
      words.value = "";
      update();
    }
  });
}

// --- the player: whatever has a time leads there, cues are the captions, the segment that plays is marked

const player = document.querySelector("video");
if (player) {
  const segments = [...document.querySelectorAll(".segment")];
  const start = (segment) => Number(segment.dataset.start);
  const now = document.querySelectorAll(".now");
  const jump = (time) => {
    player.currentTime = time;
    player.play().catch(() => {}); // a browser may want to be clicked first
  };
  const follow = () => {
    const time = player.currentTime;
    for (const segment of segments) {
      const plays = start(segment) <= time && time < Number(segment.dataset.end);
      if (plays) segment.setAttribute("aria-current", "true");
      else segment.removeAttribute("aria-current");
    }
    const place = `${(100 * time) / (player.duration || Infinity)}%`;
    for (const line of now) for (const end of ["x1", "x2"]) line.setAttribute(end, place);
  };
  for (const event of ["timeupdate", "seeking", "loadedmetadata"]) player.addEventListener(event, follow);
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[data-time]");
    if (link && !player.error && !player.hidden) {
      event.preventDefault();
      jump(Number(link.dataset.time));
    }
  });
  const target = document.getElementById(location.hash.slice(1)); // a link from the page of the run
  if (target?.matches(".segment")) player.currentTime = start(target);
  const failed = () => {
    player.hidden = true;
    document.querySelector("#unplayable").hidden = false;
  };
  player.addEventListener("error", failed);
  if (player.error) failed();
}
