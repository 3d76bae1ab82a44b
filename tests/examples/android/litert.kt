// What the app calls of com.google.ai.edge.litert:litert 2.3.0, as declarations: LiteRT's package for Android cannot be
// had where the tests run. Names and types are those of LiteRT's Kotlin API; nothing here runs.
package com.google.ai.edge.litert

import android.content.Context
import android.content.res.AssetManager

enum class Accelerator { NONE, CPU, GPU, NPU }

class LiteRtException(message: String) : Exception(message)

interface NpuAcceleratorProvider

class BuiltinNpuAcceleratorProvider(context: Context) : NpuAcceleratorProvider

class Environment private constructor() : AutoCloseable {
    override fun close() = TODO()

    companion object {
        enum class Option { DispatchLibraryDir }

        fun create(options: Map<Option, String> = mapOf()): Environment = TODO()

        fun create(provider: NpuAcceleratorProvider, options: Map<Option, String> = mapOf()): Environment = TODO()
    }
}

class TensorBuffer private constructor() : AutoCloseable {
    fun writeInt(data: IntArray): Unit = TODO()

    fun writeFloat(data: FloatArray): Unit = TODO()

    fun writeInt8(data: ByteArray): Unit = TODO()

    fun readInt(): IntArray = TODO()

    fun readFloat(): FloatArray = TODO()

    fun readInt8(): ByteArray = TODO()

    override fun close() = TODO()
}

class CompiledModel private constructor() : AutoCloseable {
    class Options(vararg accelerators: Accelerator)

    fun createInputBuffers(signatureIndex: Int = 0): List<TensorBuffer> = TODO()

    fun createOutputBuffers(signatureIndex: Int = 0): List<TensorBuffer> = TODO()

    fun run(inputs: List<TensorBuffer>, outputs: List<TensorBuffer>, signatureIndex: Int = 0): Unit = TODO()

    override fun close() = TODO()

    companion object {
        fun create(
            assetManager: AssetManager,
            assetName: String,
            options: Options,
            optionalEnv: Environment? = null,
        ): CompiledModel = TODO()
    }
}
