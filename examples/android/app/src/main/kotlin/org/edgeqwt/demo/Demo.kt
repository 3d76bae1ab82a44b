// What `edgeqwt demo OUT --android` wrote (demo.json), and the arithmetic at a file's inputs and outputs.
// Nothing of Android is used here, so that this file runs on any JVM.
package org.edgeqwt.demo

import java.nio.ByteBuffer
import java.nio.ByteOrder
import kotlin.math.abs
import kotlin.math.log10
import kotlin.math.max
import kotlin.math.min
import org.json.JSONArray
import org.json.JSONObject

/** Thrown where demo.json is of another version or the files do not fit it. */
class DemoException(message: String) : Exception(message)

/** One input or output of a file: real = scale * (integer - zeroPoint); scale is null where no integers stand for reals. */
class Port(val name: String, val shape: List<Int>, val dtype: String, val scale: Float?, val zeroPoint: Int) {
    val size: Int = shape.fold(1) { product, axis -> product * axis }
    val elementBytes: Int = BYTES[dtype] ?: throw DemoException("$name is of $dtype, which this app does not feed")

    /** Real values as the file's bytes, little-endian: halves away from zero, saturated, as TFLite's QUANTIZE does. */
    fun encode(values: FloatArray): ByteArray {
        require(values.size == size) { "$name takes $size values, not ${values.size}" }
        val bytes = ByteBuffer.allocate(size * elementBytes).order(ByteOrder.LITTLE_ENDIAN)
        for (value in values) put(bytes, value)
        return bytes.array()
    }

    /** The file's bytes as real values. */
    fun decode(bytes: ByteArray): FloatArray = FloatArray(size) { i ->
        if (dtype == FLOAT) float(bytes, i) else (integer(bytes, i) - zeroPoint) * (scale ?: 1f)
    }

    /** One integer of the file's bytes. */
    fun integer(bytes: ByteArray, index: Int): Int = when (dtype) {
        "int8" -> bytes[index].toInt()
        "uint8" -> bytes[index].toInt() and 0xff
        else -> ByteBuffer.wrap(bytes).order(ByteOrder.LITTLE_ENDIAN).getInt(4 * index)
    }

    private fun float(bytes: ByteArray, index: Int): Float =
        ByteBuffer.wrap(bytes).order(ByteOrder.LITTLE_ENDIAN).getFloat(4 * index)

    private fun put(bytes: ByteBuffer, value: Float) {
        if (dtype == FLOAT) {
            bytes.putFloat(value)
            return
        }
        val ratio = value / (scale ?: 1f)
        // Double is exact where float has lost the half, as in edgeqwt/runtime/boundary.py.
        val steps = (if (ratio < 0f) ratio.toDouble() - 0.5 else ratio.toDouble() + 0.5).toLong() + zeroPoint
        when (dtype) {
            "int8" -> bytes.put(min(max(steps, -128L), 127L).toByte())
            "uint8" -> bytes.put(min(max(steps, 0L), 255L).toByte())
            else -> bytes.putInt(min(max(steps, Int.MIN_VALUE.toLong()), Int.MAX_VALUE.toLong()).toInt())
        }
    }

    companion object {
        const val FLOAT = "float32"
        private val BYTES = mapOf(FLOAT to 4, "int8" to 1, "uint8" to 1, "int32" to 4)
    }
}

/** What a file was compiled to for the NPU of one chip, `soc`. */
class Compiled(val file: String, val soc: String) {
    /** Whether a phone has that chip, by its Build.SOC_MODEL; makers add a variant to the name: SM8650-AC. */
    fun runsOn(model: String): Boolean = model == soc || model.startsWith("$soc-")
}

/** One of the files that are shown side by side. */
class ModelFile(
    val name: String,
    val file: String,
    val bytes: Long,
    val compiled: Compiled?,
    val inputs: List<Port>,
    val outputs: List<Port>,
)

/** What a camera's picture becomes: (pixel * scale - mean) / std by channel. */
class ImageInput(
    val height: Int,
    val width: Int,
    val channels: Int,
    private val scale: Float,
    private val mean: List<Float>,
    private val std: List<Float>,
) {
    /** Values in the order (height, width, channels) of pixels 0xAARRGGBB in rows. */
    fun values(pixels: IntArray): FloatArray {
        require(pixels.size == width * height) { "${pixels.size} pixels for $width x $height" }
        val found = FloatArray(pixels.size * channels)
        for ((i, pixel) in pixels.withIndex()) {
            val red = (pixel shr 16 and 0xff).toFloat()
            val green = (pixel shr 8 and 0xff).toFloat()
            val blue = (pixel and 0xff).toFloat()
            for (c in 0 until channels) {
                val taken = if (channels == 1) 0.299f * red + 0.587f * green + 0.114f * blue else channel(red, green, blue, c)
                found[i * channels + c] = (taken * scale - mean[c % mean.size]) / std[c % std.size]
            }
        }
        return found
    }

    private fun channel(red: Float, green: Float, blue: Float, c: Int): Float = when (c) {
        0 -> red
        1 -> green
        else -> blue
    }
}

/** The names of a test vector's files. */
class Vector(val inputs: List<String>, val outputs: List<String>)

/** How two outputs differ, in steps of the output's scale. */
class Difference(val elements: Int, val differing: Int, val largest: Int)

/** All that demo.json says. */
class Demo(
    val title: String,
    val models: List<ModelFile>,
    val labels: List<String>,
    val image: ImageInput?,
    val vectors: List<Vector>,
) {
    /** The file that the package is made for: the last one. */
    val last: ModelFile get() = models[models.size - 1]

    /** What a class is called. */
    fun label(index: Int): String = if (index < labels.size) labels[index] else "class $index"

    /** The best classes of a file's first output, where that holds scores; else its first values. */
    fun answer(values: FloatArray): String {
        val first = last.outputs[0]
        if (!isScores(first)) return values.take(4).joinToString(", ", postfix = " …") { "%.4g".format(it) }
        val order = values.indices.sortedByDescending { values[it] }.take(3)
        return order.joinToString("\n") { "%-16s %.4g".format(label(it), values[it]) }
    }

    /** Whether two files give the same first class; null where the output holds no scores. */
    fun sameAnswer(reference: FloatArray, found: FloatArray): Boolean? =
        if (isScores(last.outputs[0])) best(reference) == best(found) else null

    companion object {
        const val SCHEMA = "edgeqwt.demo"
        const val VERSION = 1

        /** Reads demo.json. */
        fun parse(text: String): Demo {
            val root = JSONObject(text)
            if (root.getString("schema") != SCHEMA || root.getInt("version") != VERSION) {
                throw DemoException("demo.json is of another version: write it with the edgeqwt that this app came with")
            }
            return Demo(
                root.getJSONObject("report").optString("model"),
                objects(root.getJSONArray("models")).map(::model),
                strings(root.getJSONArray("labels")),
                image(root.getJSONObject("input")),
                objects(root.getJSONArray("vectors")).map {
                    Vector(strings(it.getJSONArray("inputs")), strings(it.getJSONArray("outputs")))
                },
            )
        }

        private fun model(found: JSONObject): ModelFile {
            val ports = found.getJSONObject("ports")
            return ModelFile(
                found.getString("name"),
                found.getString("file"),
                found.getLong("bytes"),
                if (found.isNull("compiled")) null else compiled(found.getJSONObject("compiled")),
                objects(ports.getJSONArray("inputs")).map(::port),
                objects(ports.getJSONArray("outputs")).map(::port),
            )
        }

        private fun compiled(found: JSONObject) = Compiled(found.getString("file"), found.getString("soc"))

        private fun port(found: JSONObject): Port {
            val shape = found.getJSONArray("shape")
            return Port(
                found.getString("name"),
                List(shape.length()) { shape.getInt(it) },
                found.getString("dtype"),
                if (found.isNull("scale")) null else found.getDouble("scale").toFloat(),
                if (found.isNull("zero_point")) 0 else found.getInt("zero_point"),
            )
        }

        private fun image(found: JSONObject): ImageInput? {
            if (found.getString("kind") != "image") return null
            return ImageInput(
                found.getInt("height"),
                found.getInt("width"),
                found.getInt("channels"),
                found.getDouble("scale").toFloat(),
                floats(found.getJSONArray("mean")),
                floats(found.getJSONArray("std")),
            )
        }

        private fun objects(list: JSONArray) = List(list.length()) { list.getJSONObject(it) }

        private fun strings(list: JSONArray) = List(list.length()) { list.getString(it) }

        private fun floats(list: JSONArray) = List(list.length()) { list.getDouble(it).toFloat() }
    }
}

private fun isScores(port: Port): Boolean = port.shape.count { it != 1 } == 1 && port.shape[port.shape.size - 1] > 1

private fun best(values: FloatArray): Int = values.indices.maxByOrNull { values[it] } ?: -1

/** SQNR in dB of an answer against the float file's; infinite where they are equal. */
fun sqnr(reference: FloatArray, found: FloatArray): Double {
    var signal = 0.0
    var noise = 0.0
    for (i in reference.indices) {
        signal += reference[i].toDouble() * reference[i]
        noise += (reference[i].toDouble() - found[i]) * (reference[i].toDouble() - found[i])
    }
    return if (noise == 0.0) Double.POSITIVE_INFINITY else 10 * log10(signal / noise)
}

/** How an output differs from the package's integers (or floats, where any difference counts as one step). */
fun difference(port: Port, expected: ByteArray, found: ByteArray): Difference {
    var differing = 0
    var largest = 0
    for (i in 0 until port.size) {
        val steps = if (port.dtype == Port.FLOAT) {
            val at = i * port.elementBytes
            if ((at until at + port.elementBytes).all { expected[it] == found[it] }) 0 else 1
        } else {
            abs(port.integer(expected, i) - port.integer(found, i))
        }
        if (steps > 0) differing += 1
        largest = max(largest, steps)
    }
    return Difference(port.size, differing, largest)
}
