// Runs the app's arithmetic on a JVM: the values of a text file through every input and output of demo.json.
package org.edgeqwt.demo

import java.io.File

fun main(arguments: Array<String>) {
    val assets = File(arguments[0])
    val values = File(arguments[1]).readLines().map { it.toFloat() }
    val demo = Demo.parse(File(assets, "demo.json").readText())
    for (model in demo.models) {
        for (port in model.inputs + model.outputs) {
            val real = FloatArray(port.size) { values[it % values.size] }
            val bytes = port.encode(real)
            println("encode ${model.name} ${port.dtype} " + bytes.joinToString(" "))
            println("decode ${model.name} ${port.dtype} " + port.decode(bytes).joinToString(" ") { it.toRawBits().toString() })
        }
    }
    val image = demo.image!!
    val pixels = IntArray(image.width * image.height) { it * 2654435 or (0xff shl 24) }
    println("pixels " + image.values(pixels).joinToString(" ") { it.toRawBits().toString() })
    for (vector in demo.vectors) {
        val expected = File(assets, vector.outputs[0]).readBytes()
        val other = expected.copyOf().also { it[0] = if (it[0] < 0) 127 else -128 }
        val same = difference(demo.last.outputs[0], expected, expected)
        val found = difference(demo.last.outputs[0], expected, other)
        println("vector ${same.differing} ${same.largest} ${found.elements} ${found.differing} ${found.largest}")
    }
    for (model in demo.models) println("npu " + model.compiled?.let(::chips))
    println("label " + demo.label(0) + " | " + demo.label(1))
}

private fun chips(compiled: Compiled): String =
    listOf("SM8650", "SM8650-AC", "SM86", "SM86501", "SM8550")
        .joinToString(prefix = "${compiled.file}, ") { "$it: ${compiled.runsOn(it)}" }
