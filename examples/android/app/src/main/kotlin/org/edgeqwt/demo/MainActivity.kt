// The screen: a card for each file, with its answer, how far it is from the float file's, and how long a run takes.
package org.edgeqwt.demo

import android.Manifest
import android.app.Activity
import android.content.pm.PackageManager
import android.content.res.AssetManager
import android.os.Bundle
import android.os.Handler
import android.os.HandlerThread
import android.view.LayoutInflater
import android.view.TextureView
import android.view.View
import android.view.ViewGroup
import android.widget.TextView
import com.google.ai.edge.litert.LiteRtException
import java.io.IOException
import org.json.JSONException

class MainActivity : Activity() {
    // Files run on a thread of their own, in order; `running` is touched there alone.
    private val worker = HandlerThread("models")
    private lateinit var work: Handler
    private lateinit var screen: Handler
    private lateinit var camera: Camera
    private var running: List<Runner> = emptyList()
    private var demo: Demo? = null
    private var live = false

    override fun onCreate(saved: Bundle?) {
        super.onCreate(saved)
        setContentView(R.layout.main)
        screen = Handler(mainLooper)
        worker.start()
        work = Handler(worker.looper)
        camera = Camera(this, view(R.id.preview) as TextureView, screen, ::say)
        button(R.id.camera) { askForCamera() }
        button(R.id.vectors) { stopCamera(); inBackground { checkVectors(it) } }
        button(R.id.measure) { stopCamera(); inBackground { measure(it) } }
        work.post { guarded { load() } }
    }

    override fun onPause() {
        super.onPause()
        stopCamera()
    }

    override fun onDestroy() {
        work.post { running.forEach { it.close() } }
        worker.quitSafely()
        super.onDestroy()
    }

    override fun onRequestPermissionsResult(request: Int, names: Array<String>, results: IntArray) {
        if (results.firstOrNull() == PackageManager.PERMISSION_GRANTED) startCamera() else say("No camera without permission.")
    }

    // -- on the models' thread --------------------------------------------------------

    private fun load() {
        val found = Demo.parse(String(assets.read("demo.json"), Charsets.UTF_8))
        running = found.models.map { Runner.create(this, it) }
        screen.post { show(found) }
        checkVectors(found)
    }

    private fun checkVectors(found: Demo) {
        var elements = 0
        var differing = 0
        var largest = 0
        for (vector in found.vectors) {
            val answers = answer(found, vector.inputs.mapIndexed { i, name -> found.last.inputs[i].decode(assets.read(name)) })
            for ((i, name) in vector.outputs.withIndex()) {
                val difference = difference(found.last.outputs[i], assets.read(name), answers.last()[i])
                elements += difference.elements
                differing += difference.differing
                largest = maxOf(largest, difference.largest)
            }
        }
        val where = running.last().accelerator
        say("${found.vectors.size} test vectors on the $where: $differing of $elements values differ, by $largest steps at most.")
    }

    private fun measure(found: Demo) {
        val values = if (found.vectors.isEmpty()) {
            found.last.inputs.map { FloatArray(it.size) }
        } else {
            found.vectors[0].inputs.mapIndexed { i, name -> found.last.inputs[i].decode(assets.read(name)) }
        }
        for ((k, runner) in running.withIndex()) {
            val latency = runner.measure(encoded(runner.model, values))
            val text = "%.3f ms at least, median %.3f, nine of ten below %.3f, of %d runs"
                .format(latency.least, latency.median, latency.ninth, latency.runs)
            screen.post { card(k)?.set(R.id.runs, "${about(runner)}\n$text") }
        }
    }

    /** Runs all files on the same real values and shows what they answer; the outputs' bytes by file. */
    private fun answer(found: Demo, values: List<FloatArray>): List<List<ByteArray>> {
        val answers = running.map { it.run(encoded(it.model, values)) }
        val reals = running.mapIndexed { k, runner -> runner.model.outputs[0].decode(answers[k][0]) }
        screen.post {
            for ((k, real) in reals.withIndex()) {
                card(k)?.set(R.id.answer, found.answer(real))
                if (k > 0) card(k)?.let { showDifference(it, found.sameAnswer(reals[0], real), sqnr(reals[0], real)) }
            }
        }
        return answers
    }

    private fun encoded(model: ModelFile, values: List<FloatArray>) = values.mapIndexed { i, v -> model.inputs[i].encode(v) }

    private fun inBackground(task: (Demo) -> Unit) {
        val found = demo ?: return
        work.post { guarded { task(found) } }
    }

    /** What is wrong is shown; the app goes on. */
    private fun guarded(task: () -> Unit) {
        try {
            task()
        } catch (wrong: DemoException) {
            say(wrong.message ?: "demo.json does not fit this app.")
        } catch (wrong: JSONException) {
            say("demo.json cannot be read: ${wrong.message}")
        } catch (missing: IOException) {
            say("An asset is missing: ${missing.message}. Write them anew with edgeqwt demo OUT --android.")
        } catch (refused: LiteRtException) {
            say("LiteRT: ${refused.message}")
        }
    }

    // -- on the screen's thread ---------------------------------------------------------

    private fun show(found: Demo) {
        demo = found
        (view(R.id.title) as TextView).text = found.title.ifEmpty { getString(R.string.app_name) }
        val cards = view(R.id.cards) as ViewGroup
        for (runner in running) {
            val card = LayoutInflater.from(this).inflate(R.layout.card, cards, false)
            card.set(R.id.name, runner.model.name)
            card.set(R.id.runs, about(runner))
            cards.addView(card)
        }
        view(R.id.camera).isEnabled = found.image != null
        view(R.id.vectors).isEnabled = found.vectors.isNotEmpty()
        view(R.id.measure).isEnabled = true
    }

    private fun about(runner: Runner): String {
        val reason = runner.refused?.let { " ($it)" } ?: ""
        return "%,d bytes, runs on the %s%s".format(runner.model.bytes, runner.accelerator, reason)
    }

    private fun showDifference(card: View, same: Boolean?, decibels: Double) {
        val distance = if (decibels.isInfinite()) "the same values as the float file" else "%.1f dB SQNR".format(decibels)
        val answer = if (same == null) "" else if (same) "same answer as float, " else "another answer than float, "
        card.set(R.id.difference, answer + distance)
        (card.view(R.id.difference) as TextView).setTextColor(getColor(if (same == false) R.color.bad else R.color.good))
    }

    private fun askForCamera() {
        when {
            live -> stopCamera()
            checkSelfPermission(Manifest.permission.CAMERA) == PackageManager.PERMISSION_GRANTED -> startCamera()
            else -> requestPermissions(arrayOf(Manifest.permission.CAMERA), 1)
        }
    }

    private fun startCamera() {
        live = true
        view(R.id.preview).visibility = View.VISIBLE
        camera.start()
        nextPicture()
    }

    private fun stopCamera() {
        live = false
        camera.stop()
        view(R.id.preview).visibility = View.GONE
    }

    private fun nextPicture() {
        val found = demo
        val image = found?.image
        if (!live || found == null || image == null) return
        val pixels = camera.picture(image.width, image.height)
        if (pixels == null) {
            screen.postDelayed(::nextPicture, 50L)
            return
        }
        work.post {
            guarded { answer(found, listOf(image.values(pixels))) }
            screen.postDelayed(::nextPicture, 50L) // the next one only when this one is done
        }
    }

    private fun say(text: String) {
        screen.post { (view(R.id.state) as TextView).text = text }
    }

    // A type for what is found: Android's own is a type parameter since API 26.
    private fun view(id: Int): View = findViewById(id)

    private fun card(index: Int): View? = (view(R.id.cards) as ViewGroup).getChildAt(index)

    private fun button(id: Int, task: () -> Unit) = view(id).setOnClickListener { task() }
}

private fun View.view(id: Int): View = findViewById(id)

private fun View.set(id: Int, text: String) {
    (view(id) as TextView).text = text
}

private fun AssetManager.read(name: String): ByteArray = open(name).use { it.readBytes() }
