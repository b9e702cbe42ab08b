/** `xenkit net list`. */
import { formatMac } from '@xenkit/frames'
import { printable } from '@xenkit/hypervisor'
import { type ListedCard, listVifs } from '@xenkit/vif'
import { openXenstore } from '@xenkit/xenstore-client'
import { openControl } from '../open-hypervisor.ts'
import { printableLines } from './printable-lines.ts'
import { table } from './table.ts'

/** Prints the network cards of this domain's backends, whichever program serves them. */
export async function netList(o: { readonly json: boolean }): Promise<void> {
  await using control = await openControl()
  using xs = await openXenstore(control.xenstore)
  const cards = await listVifs(xs, control.domid)
  console.log(
    o.json ? printableLines(JSON.stringify(cards.map(asJson), undefined, 2)) : asTable(cards),
  )
}

const asJson = (card: ListedCard): object => ({ ...card, mac: macOf(card) })

function asTable(cards: readonly ListedCard[]): string {
  return table([
    ['domid', 'devid', 'interface', 'mac', 'backend', 'frontend', 'bridge', 'xenkit', 'error'],
    ...cards.map((card) => [
      String(card.frontendDomid),
      String(card.devid),
      printable(card.name),
      macOf(card) ?? '-',
      card.backendState ?? 'none',
      card.frontendState ?? 'none',
      printable(card.bridge ?? '-'),
      card.claim === undefined ? 'no' : 'yes',
      printable(card.error ?? '-'),
    ]),
  ])
}

const macOf = ({ mac }: ListedCard): string | undefined => mac && formatMac(mac)
