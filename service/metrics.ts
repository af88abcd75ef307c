/** A metric's labels. Only fixed words go in, never a name, an address or an id: every value is a series that is kept. */
type Labels = Readonly<Record<string, string>>;

interface Series {
  readonly labels: Labels;
  value: number;
}

interface Metric {
  readonly help: string;
  readonly type: "counter" | "gauge";
  readonly series: Map<string, Series>;
  /** Read when asked for; for what is known elsewhere. */
  readonly read: (() => number) | null;
}

/** Counters and gauges in the text format of Prometheus (version 0.0.4). */
export class Metrics {
  readonly #metrics = new Map<string, Metric>();

  /** Declares a counter; the answer adds to it. */
  counter(name: string, help: string): (labels?: Labels, amount?: number) => void {
    const metric = this.#declare(name, help, "counter", null);
    return (labels = {}, amount = 1) => {
      const key = JSON.stringify(labels);
      const series = metric.series.get(key);
      if (series === undefined) metric.series.set(key, { labels, value: amount });
      else series.value += amount;
    };
  }

  /** Declares a figure that is read when it is asked for. */
  observe(name: string, help: string, read: () => number, type: Metric["type"] = "gauge"): void {
    this.#declare(name, help, type, read);
  }

  render(): string {
    let text = "";
    for (const [name, { help, type, series, read }] of this.#metrics) {
      text += `# HELP ${name} ${help}\n# TYPE ${name} ${type}\n`;
      if (read !== null) text += `${name} ${read()}\n`;
      for (const { labels, value } of series.values()) text += `${name}${renderLabels(labels)} ${value}\n`;
    }
    return text;
  }

  #declare(name: string, help: string, type: Metric["type"], read: Metric["read"]): Metric {
    if (this.#metrics.has(name)) throw new Error(`the metric ${name} is declared twice`);
    const metric: Metric = { help, type, series: new Map(), read };
    this.#metrics.set(name, metric);
    return metric;
  }
}

function renderLabels(labels: Labels): string {
  const pairs = Object.entries(labels).map(([name, value]) => `${name}="${value}"`);
  return pairs.length === 0 ? "" : `{${pairs.join(",")}}`;
}
