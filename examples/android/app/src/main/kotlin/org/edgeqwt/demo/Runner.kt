// One file in LiteRT: compiled for the first of NPU, GPU and CPU that takes it.
package org.edgeqwt.demo

import android.content.Context
import android.os.Build
import android.util.Log
import com.google.ai.edge.litert.Accelerator
import com.google.ai.edge.litert.BuiltinNpuAcceleratorProvider
import com.google.ai.edge.litert.CompiledModel
import com.google.ai.edge.litert.Environment
import com.google.ai.edge.litert.LiteRtException
import com.google.ai.edge.litert.TensorBuffer
import java.nio.ByteBuffer
import java.nio.ByteOrder

/** Milliseconds of one file's runs. */
class Latency(val least: Double, val median: Double, val ninth: Double, val runs: Int)

/** A file that runs; `refused` says why not on the NPU that it was compiled for. Close it; use it from one thread. */
class Runner private constructor(
    val model: ModelFile,
    val accelerator: Accelerator,
    val refused: String?,
    private val environment: Environment,
    private val compiled: CompiledModel,
) : AutoCloseable {
    private val inputs: List<TensorBuffer> = compiled.createInputBuffers()
    private val outputs: List<TensorBuffer> = compiled.createOutputBuffers()

    /** The outputs' bytes for the inputs' bytes, both in the order of the file. */
    fun run(data: List<ByteArray>): List<ByteArray> {
        feed(data)
        compiled.run(inputs, outputs)
        return outputs.mapIndexed { i, buffer -> read(buffer, model.outputs[i]) }
    }

    /** How long runs take without the copies of inputs and outputs; the first ones are not counted. */
    fun measure(data: List<ByteArray>, runs: Int = 50, warm: Int = 5): Latency {
        feed(data)
        repeat(warm) { compiled.run(inputs, outputs) }
        val times = LongArray(runs) {
            val start = System.nanoTime()
            compiled.run(inputs, outputs)
            System.nanoTime() - start
        }
        times.sort()
        return Latency(times[0] / 1e6, times[runs / 2] / 1e6, times[runs * 9 / 10] / 1e6, runs)
    }

    override fun close() {
        (inputs + outputs).forEach { it.close() }
        compiled.close()
        environment.close()
    }

    private fun feed(data: List<ByteArray>) {
        for ((i, bytes) in data.withIndex()) write(inputs[i], model.inputs[i], bytes)
    }

    companion object {
        private const val TAG = "edgeqwt"

        /** A file for the first accelerator that takes it: the compiled file on the NPU, else the GPU, else the CPU. */
        fun create(context: Context, model: ModelFile): Runner {
            val compiled = model.compiled
            val other = compiled?.takeIf { !it.runsOn(Build.SOC_MODEL) }
            var refused = other?.let { "its NPU file is for ${it.soc}, this phone has ${Build.SOC_MODEL}" }
            val choices = listOfNotNull(
                compiled?.takeIf { other == null }?.let { it.file to Accelerator.NPU },
                // LiteRT's GPU computes in float16: what integers a file has there proves nothing about the NPU's.
                (model.file to Accelerator.GPU).takeIf { model.inputs.all { it.dtype == Port.FLOAT } },
            )
            for ((file, accelerator) in choices) {
                val reason = try {
                    return open(context, model, file, accelerator, refused)
                } catch (taken: LiteRtException) {
                    "the $accelerator does not take it: ${taken.message}"
                } catch (missing: UnsatisfiedLinkError) {
                    "the $accelerator has no library here: ${missing.message}"
                }
                Log.i(TAG, "$file: $reason")
                if (accelerator == Accelerator.NPU) refused = reason
            }
            return open(context, model, model.file, Accelerator.CPU, refused)
        }

        private fun open(
            context: Context,
            model: ModelFile,
            file: String,
            accelerator: Accelerator,
            refused: String?,
        ): Runner {
            val environment = if (accelerator == Accelerator.NPU) {
                Environment.create(BuiltinNpuAcceleratorProvider(context))
            } else {
                Environment.create()
            }
            try {
                val options = CompiledModel.Options(accelerator)
                val compiled = CompiledModel.create(context.assets, file, options, environment)
                return Runner(model, accelerator, refused, environment, compiled)
            } catch (wrong: LiteRtException) {
                environment.close()
                throw wrong
            }
        }

        private fun write(buffer: TensorBuffer, port: Port, bytes: ByteArray) {
            val data = ByteBuffer.wrap(bytes).order(ByteOrder.LITTLE_ENDIAN)
            when (port.dtype) {
                Port.FLOAT -> buffer.writeFloat(FloatArray(port.size) { data.getFloat(4 * it) })
                "int32" -> buffer.writeInt(IntArray(port.size) { data.getInt(4 * it) })
                else -> buffer.writeInt8(bytes) // uint8 has the same bytes
            }
        }

        private fun read(buffer: TensorBuffer, port: Port): ByteArray {
            val data = ByteBuffer.allocate(port.size * port.elementBytes).order(ByteOrder.LITTLE_ENDIAN)
            when (port.dtype) {
                Port.FLOAT -> buffer.readFloat().forEach { data.putFloat(it) }
                "int32" -> buffer.readInt().forEach { data.putInt(it) }
                else -> data.put(buffer.readInt8())
            }
            return data.array()
        }
    }
}
