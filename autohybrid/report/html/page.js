"use strict";
// Draws the charts and the panel from the plan's data, and makes the tables sortable. All names are set as text.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const panel = d3.select("#panel");
  const ROW = 22;
  const MARKS = {
    region: "converted: a region",
    inside: "inside a region",
    unlocks: "stays eager, could be converted if its reason were mended",
    eager: "stays eager",
  };

  // Numbers for people.

  function significant(value) {
    const size = Math.abs(value);
    return value.toFixed(size >= 100 || size === 0 ? 0 : size >= 10 ? 1 : size >= 1 ? 2 : 3);
  }

  function unitOf(seconds) {
    return seconds >= 1 ? [1, "s"] : seconds >= 1e-3 ? [1e-3, "ms"] : [1e-6, "us"];
  }

  function duration(seconds) {
    const [size, unit] = unitOf(seconds);
    return `${significant(seconds / size)} ${unit}`;
  }

  function ticksOf(first, last, count) {
    const [size, unit] = unitOf(last - first);
    return d3.ticks(first / size, last / size, count).map((tick) => [tick * size, `${+tick.toPrecision(6)} ${unit}`]);
  }

  // Trees: plain lists from the plan become nodes with a place in time, laid out by d3.

  function laidOut(boxes) {
    const nodes = boxes.name.map((name, index) => ({
      name,
      label: boxes.label[index],
      own: boxes.own[index],
      layer: boxes.layer[index],
      region: boxes.region[index],
      mark: boxes.mark[index],
      children: [],
    }));
    boxes.parent.forEach((parent, index) => parent !== null && nodes[parent].children.push(nodes[index]));
    const root = d3.hierarchy(nodes[0]).sum((node) => node.own);
    // Without rounding and with the whole as width, x is in seconds.
    return d3.partition().size([root.value, root.height + 1])(root);
  }

  // Charts.

  class Chart {
    constructor(place, model) {
      this.model = model;
      this.place = d3.select(place);
      this.tools = d3.select(place.parentNode).select(".tools");
      this.sides = [this.side("Eager", model.eager)];
      if (model.hybrid) this.sides.push(this.side("Hybrid", model.hybrid));
      this.span = d3.max(this.sides, (side) => side.root.value) || 1;
      this.drawLegend();
      this.zoomTo(null);
      this.listen();
    }

    side(title, boxes) {
      const root = laidOut(boxes);
      const nodes = root.descendants();
      const header = this.place.append("div").attr("class", "side");
      header.append("span").text(`${title}: ${duration(root.value)} for each root call`);
      const axis = this.place.append("div").attr("class", "axis").attr("aria-hidden", "true");
      const tree = this.place
        .append("div")
        .attr("class", "tree")
        .attr("role", "tree")
        .attr("aria-label", `${title}: Layers by time`)
        .style("height", `${(root.height + 1) * ROW}px`);
      const elements = tree
        .selectAll("div")
        .data(nodes)
        .join("div")
        .attr("class", (node) => `box ${node.data.mark}`)
        .attr("role", "treeitem")
        .attr("aria-level", (node) => node.depth + 1)
        .attr("tabindex", (node) => (node.depth ? -1 : 0))
        .attr("title", (node) => this.described(node))
        .text((node) => this.labelled(node))
        .style("top", (node) => `${node.depth * ROW}px`);
      elements.each(function (node) {
        node.element = this;
      });
      const side = { title, root, nodes, axis, tree, elements, byName: new Map(nodes.map((node) => [node.data.name, node])) };
      for (const node of nodes) node.side = side;
      return side;
    }

    // Why it stays eager, as far as that is worth a mark.
    reasonsOf({ name, mark }) {
      if (mark === "region" || mark === "inside") return "";
      const reasons = (this.model.fates[name] || []).map((fate) => fate.reason);
      return [...new Set(reasons)].filter((reason) => !data.uninteresting.includes(reason)).join(", ");
    }

    labelled({ data: box }) {
      const reasons = this.reasonsOf(box);
      return `${box.mark === "region" ? "✓ " : ""}${box.label}${reasons && ` · ${reasons}`}`;
    }

    described(node) {
      const { name, layer, mark } = node.data;
      const cls = layer === null ? "" : ` (${this.model.layers[layer][1]})`;
      return `${name}${cls}: ${duration(node.value)}, ${this.reasonsOf(node.data) || MARKS[mark]}`;
    }

    drawLegend() {
      const present = Object.keys(MARKS).filter((mark) => this.model.eager.mark.includes(mark));
      const items = this.place.append("div").attr("class", "legend").selectAll("span").data(present).join("span");
      items.append("span").attr("class", (mark) => `key ${mark}`);
      items.append("span").text((mark) => MARKS[mark]);
    }

    // Both sides keep one scale: as many seconds to the width on the one as on the other.
    zoomTo(node) {
      this.zoomed = node;
      const wanted = node ? node.x1 - node.x0 : this.span;
      const span = wanted > 0 ? wanted : this.span;
      for (const side of this.sides) {
        const start = node ? this.counterpart(node, side).x0 : 0;
        side.elements
          .style("left", (each) => `${(100 * (Math.max(each.x0, start) - start)) / span}%`)
          .style("width", (each) => `${(100 * Math.max(0, Math.min(each.x1, start + span) - Math.max(each.x0, start))) / span}%`)
          .style("display", (each) => (each.x1 <= start || each.x0 >= start + span) && each.x1 > each.x0 ? "none" : null);
        const ticks = ticksOf(0, span, this.place.node().clientWidth < 600 ? 4 : 8);
        side.axis
          .selectAll("span")
          .data(ticks)
          .join("span")
          .style("left", ([at]) => `${(100 * at) / span}%`)
          .style("display", ([at]) => (at > 0.97 * span ? "none" : null))
          .text(([, label]) => label);
      }
      this.tools.select(".whole").attr("disabled", node ? null : "");
    }

    counterpart(node, side) {
      for (let each = node; each; each = each.parent) {
        const found = side.byName.get(each.data.name);
        if (found) return found;
      }
      return side.root;
    }

    search(text) {
      const wanted = text.trim().toLowerCase();
      const classOf = (node) => (node.data.layer === null ? "" : this.model.layers[node.data.layer][1]);
      const matches = (node) =>
        wanted && (node.data.name.toLowerCase().includes(wanted) || classOf(node).toLowerCase().includes(wanted));
      this.place.classed("searched", Boolean(wanted));
      this.hits = this.sides[0].nodes.filter(matches);
      for (const side of this.sides) side.elements.classed("hit", matches);
      const seconds = d3.sum(this.hits, (node) => (node.ancestors().slice(1).some(matches) ? 0 : node.value));
      this.tools
        .select(".found")
        .text(wanted ? `${this.hits.length} of ${this.sides[0].nodes.length} Layers, ${duration(seconds)}` : "");
    }

    focus(node) {
      if (this.zoomed && (node.x0 >= this.zoomed.x1 || node.x1 <= this.zoomed.x0) && node.side === this.zoomed.side) {
        this.zoomTo(null);
      }
      for (const side of this.sides) side.elements.attr("tabindex", (each) => (each === node ? 0 : -1));
      for (const side of this.sides) {
        if (side !== node.side) side.root.element.tabIndex = 0;
      }
      node.element.focus();
      node.element.scrollIntoView({ block: "nearest" });
    }

    open(node) {
      const other = new Set(this.sides.map((side) => side.byName.get(node.data.name)));
      for (const side of this.sides) side.elements.classed("chosen", (each) => other.has(each));
      showPanel(this, node);
    }

    neighbour(node, key) {
      if (key === "ArrowUp") return node.parent;
      if (key === "ArrowDown") return node.children && d3.greatest(node.children, (child) => child.value);
      if (key === "Home") return node.side.root;
      const level = node.side.nodes.filter((each) => each.depth === node.depth);
      return level[level.indexOf(node) + (key === "ArrowRight" ? 1 : -1)];
    }

    listen() {
      const chart = this;
      for (const side of this.sides) {
        side.elements
          .on("click", (event, node) => {
            chart.focus(node);
            chart.open(node);
          })
          .on("dblclick", (event, node) => chart.zoomTo(node))
          .on("keydown", (event, node) => {
            const next = chart.neighbour(node, event.key);
            if (["ArrowUp", "ArrowDown", "ArrowLeft", "ArrowRight", "Home"].includes(event.key)) {
              if (next) chart.focus(next);
            } else if (event.key === "Enter" || event.key === " ") chart.open(node);
            else if (event.key === "z") chart.zoomTo(node);
            else return;
            event.preventDefault();
          });
      }
      this.tools.select(".whole").on("click", () => this.zoomTo(null));
      this.tools
        .select("input")
        .on("input", (event) => this.search(event.target.value))
        .on("keydown", (event) => {
          if (event.key !== "Enter" || !this.hits || !this.hits.length) return;
          event.preventDefault();
          this.focus(d3.greatest(this.hits, (node) => node.value));
        });
    }
  }

  // Samples as a distribution: a row of dots for eager, one for hybrid, on one axis.

  function drawDistribution(place, samples) {
    const width = Math.max(320, Math.min(640, place.node().clientWidth));
    const margin = 52;
    const right = 76;
    // A few samples of a disturbed machine would press the others together: they are counted instead.
    const typical = Math.max(d3.median(samples.eager) || 0, d3.median(samples.hybrid) || 0);
    const last = Math.min(d3.max([...samples.eager, ...samples.hybrid]), 2 * typical) || 1;
    const x = (seconds) => margin + ((width - margin - right) * seconds) / last;
    const bins = d3.bin().domain([0, last]).thresholds(Math.round((width - margin - right) / 7));
    const series = ["eager", "hybrid"].map((name) => ({ name, values: samples[name], bins: bins(samples[name]) }));
    const tallest = d3.max(series, (each) => d3.max(each.bins, (bin) => bin.length)) || 1;
    const step = Math.min(7, 44 / tallest);
    const band = Math.max(20, tallest * step + 12);
    const asDots = step > 4;
    const svg = place
      .append("svg")
      .attr("viewBox", `0 0 ${width} ${2 * band + 24}`)
      .style("max-width", `${width}px`)
      .attr("role", "img")
      .attr("aria-label", `${samples.eager.length} samples of eager, ${samples.hybrid.length} of hybrid`);
    series.forEach(({ name, values, bins }, row) => {
      const base = (row + 1) * band;
      svg.append("text").attr("x", 0).attr("y", base - 4).text(name);
      svg.append("line").attr("x1", margin).attr("x2", width - right).attr("y1", base).attr("y2", base);
      const group = svg.append("g").attr("class", name);
      for (const bin of bins) {
        if (asDots) {
          const middle = x((bin.x0 + bin.x1) / 2);
          const dots = group.selectAll(null).data(bin).join("circle").attr("class", "sample").attr("cx", middle);
          dots.attr("cy", (_, index) => base - step * (index + 0.6)).attr("r", step / 2 - 0.3);
        } else if (bin.length) {
          const bar = group.append("rect").attr("class", "sample").attr("x", x(bin.x0)).attr("y", base - step * bin.length);
          bar.attr("width", Math.max(1, x(bin.x1) - x(bin.x0) - 1)).attr("height", step * bin.length);
        }
      }
      const beyond = values.filter((seconds) => seconds > last).length;
      if (beyond) svg.append("text").attr("x", width - right + 6).attr("y", base - 4).text(`+${beyond} slower`);
      const middle = d3.median(values);
      if (middle === undefined) return;
      const line = svg.append("line").attr("class", "median").attr("x1", x(middle)).attr("x2", x(middle));
      line.attr("y1", base - band + 6).attr("y2", base + 3);
    });
    for (const [at, label] of ticksOf(0, last, width / 100)) {
      svg.append("text").attr("x", x(at)).attr("y", 2 * band + 16).attr("text-anchor", "middle").text(label);
    }
  }

  // The panel.

  let opener = null;

  function showPanel(chart, node) {
    const { model } = chart;
    const { name, layer, region, mark } = node.data;
    opener = node.element;
    panel.property("hidden", false).selectAll("*").remove();
    panel.append("h2").attr("id", "panel-title").text(name);
    panel.append("button").attr("class", "close").attr("type", "button").text("Close").on("click", closePanel);
    panel.append("p").text(MARKS[mark]);
    const zoom = panel.append("button").attr("type", "button").text("Zoom to it");
    zoom.on("click", () => chart.zoomTo(node));
    const facts = layer === null ? [] : d3.zip(model.layerFacts, model.layers[layer]).slice(1);
    const callers = layer === null ? [] : model.calledIn[layer];
    addFacts([["per root call", duration(node.value)], ...facts, ["called in", callers.join(", ")]]);
    if (region !== null) addRegion(model.regions[region]);
    const fates = model.fates[name] || [];
    if (fates.length) panel.append("h3").text(region === null ? "Not converted" : "Tried as well");
    for (const fate of fates) addFate(fate);
    if (region === null && !fates.length && mark === "eager") panel.append("p").text("Nothing was tried here.");
    panel.node().focus();
  }

  function addFacts(facts) {
    const list = panel.append("dl");
    for (const [term, said] of facts) {
      if (said === "") continue;
      list.append("dt").text(term);
      list.append("dd").text(said);
    }
  }

  function addRegion(region) {
    panel.append("h3").text("As a region");
    if (region.measuredOn) panel.append("p").text(`Measured on ${region.measuredOn}, which is alike.`);
    addFacts([...region.facts, ["equality", region.equality]]);
    panel.append("h3").text("Signature");
    for (const inputs of region.inputs) addSignature(inputs);
    addSignature(`→ ${region.outputs}`);
    if (region.varying.length) panel.append("p").text(`Varies: ${region.varying.join("; ")}.`);
    panel.append("h3").text("Samples");
    drawDistribution(panel.append("div").attr("class", "distribution"), region);
  }

  // Dimensions that vary are marked.
  function addSignature(text) {
    const code = panel.append("pre").append("code");
    text.split(/(\bdyn\b)/).forEach((part) => code.append(part === "dyn" ? "mark" : "span").text(part));
  }

  function addFate(fate) {
    const place = panel.append("div").attr("class", "fate");
    place.append("strong").text(fate.reason);
    place.append("span").text(`: ${data.meanings[fate.reason] || ""}`);
    if (fate.engine) place.append("p").text(`with ${fate.engine}${fate.times ? `: ${fate.times}` : ""}`);
    if (fate.detail) place.append("p").text(fate.detail);
    if (fate.hint) place.append("p").text(`→ ${fate.hint}`);
    if (fate.source) place.append("p").append("code").text(fate.source);
    if (fate.reproduce) place.append("p").text("reproduced alone by ").append("code").text(fate.reproduce);
    if (fate.evidence) {
      const evidence = place.append("details");
      evidence.append("summary").text("evidence");
      evidence.append("pre").text(fate.evidence);
    }
  }

  function closePanel() {
    panel.property("hidden", true);
    d3.selectAll(".box.chosen").classed("chosen", false);
    if (opener) opener.focus();
  }

  // Tables: a click on a header sorts, a name opens the panel.

  function compareCells(first, second, numeric) {
    if (first === "" || second === "") return (first === "") - (second === "");
    return numeric ? first - second : first.localeCompare(second, "en", { numeric: true });
  }

  function makeSortable(table) {
    const headers = table.tHead.rows[0].cells;
    d3.selectAll(headers).on("click", function () {
      const descends = this.ariaSort ? this.ariaSort === "ascending" : this.classList.contains("number");
      const index = this.cellIndex;
      const numeric = this.classList.contains("number");
      d3.selectAll(headers).attr("aria-sort", null);
      this.ariaSort = descends ? "descending" : "ascending";
      d3.select(table.tBodies[0])
        .selectAll("tr")
        .datum(function () {
          return this.cells[index].dataset.value;
        })
        .sort((a, b) => (descends && a !== "" && b !== "" ? -1 : 1) * compareCells(a, b, numeric));
    });
  }

  function linkNames(section, chart) {
    d3.select(section).selectAll("td.region code, td.layer code").each(function () {
      const name = this.parentNode.dataset.value.replace(/ and \d+ alike$/, "");
      const node = chart.sides.map((side) => side.byName.get(name)).find((found) => found);
      if (!node) return;
      const button = d3.create("button").attr("type", "button").attr("class", "link");
      button.node().append(...this.childNodes);
      this.append(button.node());
      button
        .on("click", (event) => {
          chart.open(node);
          opener = event.currentTarget;
        });
    });
  }

  // The page.

  const charts = [];
  for (const section of document.querySelectorAll("section.model")) {
    const model = data.models[section.dataset.model];
    const place = section.querySelector(".chart");
    if (place) {
      const chart = new Chart(place, model);
      charts.push(chart);
      linkNames(section, chart);
    }
    for (const drawn of section.querySelectorAll("[data-confirmation]")) drawDistribution(d3.select(drawn), model.confirmation);
  }
  document.querySelectorAll("table.sortable").forEach(makeSortable);

  document.addEventListener("keydown", (event) => {
    const writing = event.target instanceof HTMLInputElement;
    if (event.key === "/" && !writing && charts.length) {
      event.preventDefault();
      charts[0].tools.select("input").node().focus();
    } else if (event.key === "Escape") {
      if (!panel.property("hidden")) closePanel();
      else charts.forEach((chart) => chart.zoomed && chart.zoomTo(null));
    }
  });

  const themes = ["", "light", "dark"];
  const names = { "": "as the system", light: "light", dark: "dark" };
  d3.select("#theme").on("click", (event) => {
    const root = document.documentElement;
    const next = themes[(themes.indexOf(root.dataset.theme || "") + 1) % themes.length];
    if (next) root.dataset.theme = next;
    else delete root.dataset.theme;
    event.currentTarget.textContent = `Theme: ${names[next]}`;
  });

  addEventListener("beforeprint", () => {
    for (const chart of charts) chart.zoomTo(chart.zoomed);
    document.querySelectorAll("details").forEach((each) => each.parentNode.closest("#panel") || (each.open = true));
  });
})();
