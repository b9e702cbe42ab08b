// Adds tables to block engines, with views of their columns.

export function openTable(engine, jobs = 1, vectors = 1) {
  const number = engine.addTable(jobs, vectors)
  const buffer = engine.createTable(number)
  const layout = engine.tableLayout(number)
  const view = (Column, offset, length = jobs) => new Column(buffer, offset, length)
  return {
    number,
    position: view(Float64Array, layout.position),
    length: view(Float64Array, layout.length),
    file: view(Uint32Array, layout.file),
    first: view(Uint32Array, layout.first),
    count: view(Uint32Array, layout.count),
    result: view(Int32Array, layout.result),
    list: view(Uint32Array, layout.list),
    offset: view(Uint32Array, layout.offset, vectors),
    bytes: view(Uint32Array, layout.bytes, vectors),
    operation: view(Uint8Array, layout.operation),
  }
}
