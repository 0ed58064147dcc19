/** The part of a page that its script (lib/page/browser) fills. It is hidden until a script runs. */
export const INTERACTIVE = `<div id="interactive" hidden>
<fieldset><legend>The question</legend>
<div class="boxes">
<label>whose memory <select id="provider"></select></label>
<label>who does DMA to it <select id="client"></select></label>
</div></fieldset>
<fieldset><legend>What if</legend>
<div class="boxes">
<label>kernel <select id="kernel"></select></label>
<label>IOMMU <select id="iommu"></select></label>
<button type="button" id="reset">the machine as it is</button>
</div>
<p class="muted" id="iommu-fixed" hidden>The DMA operations of this machine map no peer memory. What its queues would take behind another IOMMU was not looked at, so it cannot be switched here.</p>
<p class="muted">The ACS bits are switched below, hop by hop. The page changes only its own answer, never a machine.</p>
</fieldset>
<div class="columns">
<div>
<section aria-labelledby="verdict-heading">
<h2 id="verdict-heading" tabindex="-1">The verdict</h2>
<div id="verdict" role="status"></div>
<ul id="notes" class="note"></ul>
<dl id="facts"></dl>
<button type="button" id="try-remedy">show what this remedy would change</button>
</section>
<section id="way" aria-labelledby="way-heading">
<h2 id="way-heading">Hop by hop</h2>
<div class="wide" role="region" aria-labelledby="way-heading" tabindex="0">
<table>
<caption>From the client to the memory. RR, CR and EC are the ACS bits that send peer traffic up to the host bridge.</caption>
<thead><tr><th scope="col">way</th><th scope="col">at</th><th scope="col">what</th><th scope="col">ACS</th><th scope="col">remark</th></tr></thead>
<tbody id="hops"></tbody>
</table>
</div>
</section>
</div>
<section aria-labelledby="tree-heading">
<h2 id="tree-heading">The PCI tree</h2>
<fieldset><legend>A click in the tree, or Enter, chooses</legend>
<label><input type="radio" name="pick" id="pick-client" checked> who does the DMA</label>
<label><input type="radio" name="pick" id="pick-provider"> whose memory</label>
</fieldset>
<p><label><input type="checkbox" id="all"> also functions that lead to no drive</label></p>
<p id="cpu"></p>
<div id="tree" class="tree" role="tree" aria-labelledby="tree-heading" aria-multiselectable="true"></div>
<p id="details" class="muted" aria-live="polite"></p>
</section>
</div>
<section aria-labelledby="drives-heading">
<h2 id="drives-heading">All drives</h2>
<p id="drives-sum" role="status"></p>
<div class="wide" role="region" aria-labelledby="drives-heading" tabindex="0">
<table>
<thead><tr><th scope="col">who does the DMA</th><th scope="col">verdict</th><th scope="col">rule</th><th scope="col" id="before-column" hidden>the machine as it is</th></tr></thead>
<tbody id="drives"></tbody>
</table>
</div>
</section>
</div>`;
